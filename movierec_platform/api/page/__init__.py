"""The page at `/`: HTML rendered here, for people; works without JavaScript, and better with the little there is."""
