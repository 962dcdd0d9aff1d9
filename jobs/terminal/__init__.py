"""What a person at a terminal sees and types: progress of runs, preparations and searches, and conversations."""
