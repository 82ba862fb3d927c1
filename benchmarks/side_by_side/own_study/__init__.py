"""Our study beside one that a competent user writes in an afternoon."""
