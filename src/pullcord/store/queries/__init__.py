"""Read queries, grouped by what they serve. They run on connections that cannot write."""
