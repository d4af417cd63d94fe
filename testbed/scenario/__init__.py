"""The timeline of disruptions, the fake Internet it acts on, and what a run leaves behind."""
