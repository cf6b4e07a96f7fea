"""The collector: takes events over HTTP and answers 200 once they are safe in Kafka or in the journal."""
