"""From the archive to batches: zip reader, archive, split, images, augmentation, data loader, drawn sample.

`archive.open_archive` and `unpack` return an Archive, `split.build` and `load` a Split on the volume, and
`loader.DataLoader` makes batches of its images. `assignment` has the rule of the split, `zip_reader.fetch` reads
members, `images.decode` decodes an image, and `labels` names the classes and the splits.
"""
