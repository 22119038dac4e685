"""From a trained model and images to masks on the images' own grids."""
