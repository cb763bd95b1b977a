"""Output for people: records, tables, figures, a site, and the progress that a terminal shows."""
