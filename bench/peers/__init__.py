"""What the project is measured against, tuned as well as we can."""
