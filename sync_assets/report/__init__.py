"""The daily report: how the sync went in the last fourteen days. days: its numbers; charts, page: how they look."""
