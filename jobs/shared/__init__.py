"""What several commands share: the command line (``cli``), the model they use (``models``), numbers, early checks."""
