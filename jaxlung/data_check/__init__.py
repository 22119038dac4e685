"""Is a set of images and masks fit for training?"""
