"""Why official and internal numbers differ, step by step."""
