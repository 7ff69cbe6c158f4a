"""Sends what a job logged with azureml-core before its process ends.

SDK v1 sends metrics from a thread, once a second, and leaves the last of them
to the service's wrapper around a script. Ebb wraps nothing: this is loaded by
ebb_flush.pth, does nothing until azureml.core.run is imported, and then asks
every client of metrics to finish at the end of the process.
"""
import sys


class _Watch:
    """Notices the import of azureml.core.run; finds nothing itself."""

    def find_spec(self, name, path=None, target=None):
        if name == "azureml.core.run" and self in sys.meta_path:
            sys.meta_path.remove(self)
            _register()
        return None


def _register():
    import concurrent.futures.thread  # noqa: F401  its exit comes after ours then, and the pool still works
    import threading

    try:
        threading._register_atexit(_flush)
    except AttributeError:  # Python 3.8
        import atexit

        atexit.register(_flush)


def _flush():
    import gc

    module = sys.modules.get("azureml._restclient.metrics_client")
    client = getattr(module, "MetricsClient", None)
    if client is None:
        return
    for thing in gc.get_objects():
        if isinstance(type(thing), type) and issubclass(type(thing), client):
            try:
                thing.flush()
            except Exception as error:  # the job has ended as it did; say it and go on
                print(f"[ebb] the last metrics were not sent: {error}", file=sys.stderr)


sys.meta_path.insert(0, _Watch())
