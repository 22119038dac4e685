"""What pages for films share: how a film and its mask are drawn, and the look of the page."""
