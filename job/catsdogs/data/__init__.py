"""From the archive to batches: zip reader, archive, split, images, augmentation, data loader, drawn sample."""
