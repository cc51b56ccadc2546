"""Where bytes lie: the store interface, S3, local folders, safe files on the volume, the publishing lease."""
