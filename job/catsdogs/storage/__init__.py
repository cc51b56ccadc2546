"""Where bytes are kept: the store interface, S3, local folders, safe files on the volume, the publishing lease.

`address.open_store` gives a Store, with `store.StorageOptions`; `volume` writes, reads and locks files on the volume;
`document` reads and writes JSON documents that have a format number; `lease.Lease` is the right to publish a run.
"""
