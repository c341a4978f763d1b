"""Runs moto's S3 server on a free port of 127.0.0.1, prints the port, and counts requests. Runs until it is killed.

moto checks the condition of a put and makes the put in two steps, so two threads could both succeed. S3 does not allow
that, therefore requests run one after the other here.

GET /-/requests answers with the number of requests so far by method, as JSON.
"""

import collections
import json
import logging
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class Serial:
    """A WSGI application that counts requests, and passes one at a time to another application."""

    def __init__(self, app):
        self.app = app
        self.lock = threading.Lock()
        self.counts = collections.Counter()

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/-/requests":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self.counts).encode()]
        method = environ["REQUEST_METHOD"]
        with self.lock:
            self.counts["LIST" if "list-type=2" in environ["QUERY_STRING"] else method] += 1
            return self.app(environ, start_response)


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, Serial(DomainDispatcherApplication(create_backend_app)), threaded=True)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
