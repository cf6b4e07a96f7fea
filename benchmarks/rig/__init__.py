"""What several benchmarks need: a broker and a store, filled topics, processes whose use of the machine is metered."""
