"""What a collector costs: its CPU, its latency, its memory under slow clients, beside another program's."""
