"""The parts of `ingestd requeue`: quarantined records that are good by now go back into a topic, none of them twice."""
