"""Behind `ingestd requeue`: produces quarantined records that are valid now to a topic, each of them once."""
