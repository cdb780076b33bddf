"""Parts of the product with the real stores, or their semantics in memory."""
