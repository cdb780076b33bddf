"""What the tools promise."""
