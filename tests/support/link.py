# SPDX-License-Identifier: Apache-2.0
"""A TCP link between agent and server that tests can cut, stall and mend."""
import socket
import threading


class Link:
    def __init__(self, target_port, listen_port=0):
        self.target = target_port
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(('127.0.0.1', listen_port))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.flowing = threading.Event()
        self.flowing.set()
        self.refusing = False
        self.sockets = set()
        self.accepted = 0
        self.open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while self.open:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.refusing:
                near.close()
                continue
            try:
                far = socket.create_connection(('127.0.0.1', self.target))
            except OSError:
                near.close()
                continue
            with self.lock:
                cut = self.refusing  # since it was looked at
                if not cut:
                    self.sockets |= {near, far}
            if cut:
                near.close()
                far.close()
                continue
            threading.Thread(target=self._copy, args=(near, far), daemon=True).start()
            threading.Thread(target=self._copy, args=(far, near), daemon=True).start()

    def _copy(self, source, sink):
        try:
            while True:
                data = source.recv(65536)
                self.flowing.wait()
                if not data:
                    break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        with self.lock:
            self.sockets -= {source}
        source.close()

    def cut(self):
        """Refuses new connections and ends those that are."""
        self.refusing = True
        with self.lock:
            for end in self.sockets:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def stall(self):
        """Connections stay, not one byte passes."""
        self.flowing.clear()

    def mend(self):
        self.refusing = False
        self.flowing.set()

    def close(self):
        self.open = False
        self.mend()
        self.cut()
        self.listener.close()
