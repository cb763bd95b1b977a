"""All records as a static site: tables, curves, a page for each record and each sweep; reads nothing but records."""
