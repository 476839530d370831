"""The parts of bench.full_size."""
