// A browser lets no page read files beside it: opened from disk, the search shows titles without the lines around a hit.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
