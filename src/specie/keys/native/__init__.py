"""Native code of the keys: `batch.c`, the mint's curve work in batches, and how it is built (`build`). Optional everywhere."""
