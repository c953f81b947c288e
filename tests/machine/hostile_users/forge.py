"""Signals of one's own making, for one connection to the system bus: forge.py DESTINATION < LINES

Each line is a JSON list: how often, path, interface, member, signature, and the arguments, in which
{n} is the number of the repetition. The bus itself says who a signal is from; all else is up to
whoever sends it. Ends when the bus has taken all of them.
"""
import json
import os
import re
import socket
import struct
import sys

METHOD_CALL, METHOD_RETURN, SIGNAL = 1, 2, 4


def pad(out, to):
    out.extend(bytes(-len(out) % to))


def put(out, kind, value):
    if kind in 'so':
        pad(out, 4)
        text = value.encode()
        out.extend(struct.pack('<I', len(text)) + text + b'\0')
    elif kind == 'g':
        out.extend(bytes([len(value)]) + value.encode() + b'\0')
    elif kind in 'ub':
        pad(out, 4)
        out.extend(struct.pack('<I', int(value)))
    elif kind in ('a{sv}', 'as'):
        pad(out, 4)
        length = len(out)
        out.extend(bytes(4))
        if kind == 'a{sv}':
            pad(out, 8)
        start = len(out)
        for item in value.items() if kind == 'a{sv}' else value:
            if kind == 'as':
                put(out, 's', item)
                continue
            pad(out, 8)
            put(out, 's', item[0])
            put(out, 'g', 's')
            put(out, 's', item[1])
        struct.pack_into('<I', out, length, len(out) - start)
    else:
        raise ValueError(kind)


def message(kind, serial, fields, signature='', arguments=()):
    body = bytearray()
    for part, argument in zip(re.findall(r'a\{sv\}|as|.', signature), arguments, strict=True):
        put(body, part, argument)
    if signature:
        fields = [*fields, (8, 'g', signature)]
    array = bytearray()
    for code, part, value in fields:
        pad(array, 8)
        array.append(code)
        put(array, 'g', part)
        # Positions in the array are those in the message, which it follows at a multiple of 8.
        put(array, part, value)
    out = bytearray(struct.pack('<BBBBIII', ord('l'), kind, 0, 1, len(body), serial, len(array)))
    out.extend(array)
    pad(out, 8)
    return bytes(out + body)


def to_the_bus(serial, member):
    bus = 'org.freedesktop.DBus'
    fields = [(1, 'o', '/org/freedesktop/DBus'), (2, 's', bus), (3, 's', member), (6, 's', bus)]
    return message(METHOD_CALL, serial, fields)


def answered(stream):
    """Reads until a method has returned."""
    while True:
        head = stream.read(16)
        body, _, fields = struct.unpack('<III', head[4:])
        stream.read(fields + -fields % 8 + body)
        if head[1] == METHOD_RETURN:
            return


def numbered(value, n):
    if isinstance(value, str):
        return value.replace('{n}', str(n))
    if isinstance(value, dict):
        return {key: numbered(item, n) for key, item in value.items()}
    return value


bus = socket.socket(socket.AF_UNIX)
bus.connect('/run/dbus/system_bus_socket')
stream = bus.makefile('rb')
bus.sendall(b'\0AUTH EXTERNAL ' + str(os.getuid()).encode().hex().encode() + b'\r\n')
assert stream.readline().startswith(b'OK'), 'the bus does not let us in'
bus.sendall(b'BEGIN\r\n' + to_the_bus(1, 'Hello'))
answered(stream)
serial = 1
for line in sys.stdin:
    count, path, interface, member, signature, *arguments = json.loads(line)
    for n in range(count):
        serial += 1
        fields = [(1, 'o', numbered(path, n)), (2, 's', interface), (3, 's', member),
                  (6, 's', sys.argv[1])]
        filled = [numbered(argument, n) for argument in arguments]
        bus.sendall(message(SIGNAL, serial, fields, signature, filled))
bus.sendall(to_the_bus(serial + 1, 'GetId'))
answered(stream)
