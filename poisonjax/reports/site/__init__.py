"""A static site of all records: tables, curves, a page for each record and sweep; made from records alone."""
