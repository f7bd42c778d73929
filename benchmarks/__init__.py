"""What it costs to accept and to refuse: `make bench` compares both in the same run."""
