"""What several functions share: stores, formats, settings, errors."""
