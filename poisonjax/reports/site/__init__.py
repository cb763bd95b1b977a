"""All records as a static site: tables, curves, a page for each record and sweep; made from records alone."""
