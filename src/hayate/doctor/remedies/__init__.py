"""What `--fix` knows to do, one remedy a file, each with its undoing."""
