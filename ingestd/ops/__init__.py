"""What operators see: metrics, health, logs, status, terminal."""
