#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""json_names.py DESCRIPTORS OUTPUT: writes the table that core/wire/proto_json.cc prints by.

nanopb's descriptors hold no names. This reads the descriptor set that protoc makes of the same .proto files and writes,
per message and sorted by field name as the JSON is, each field's name, number and kind, and the names of enum values.
"""
import sys

from google.protobuf import descriptor_pb2

F = descriptor_pb2.FieldDescriptorProto


def c_name(full_name):
    return full_name.lstrip('.').replace('.', '_')


class Table:
    def __init__(self, descriptors):
        self.enums = {}
        self.messages = {}  # full name -> message
        self.headers = []
        for file in descriptors.file:
            self.headers.append(file.name.replace('.proto', '.pb.h'))
            prefix = '.' + file.package if file.package else ''
            for enum in file.enum_type:
                self.enums[prefix + '.' + enum.name] = enum
            for message in file.message_type:
                self.add(prefix, message)

    def add(self, prefix, message):
        name = prefix + '.' + message.name
        self.messages[name] = message
        for enum in message.enum_type:
            self.enums[name + '.' + enum.name] = enum
        for nested in message.nested_type:
            self.add(name, nested)

    def kind(self, field):
        if field.type == F.TYPE_MESSAGE:
            target = self.messages[field.type_name]
            return 'map' if target.options.map_entry else 'message'
        if field.type == F.TYPE_ENUM:
            return 'enumeration'
        if field.type in (F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64):
            return 'int64'
        if field.type in (F.TYPE_UINT64, F.TYPE_FIXED64):
            return 'uint64'
        return {F.TYPE_BOOL: 'boolean', F.TYPE_STRING: 'string', F.TYPE_BYTES: 'bytes', F.TYPE_FLOAT: 'single',
                F.TYPE_DOUBLE: 'real'}.get(field.type, 'uint32' if field.type == F.TYPE_UINT32 else 'int32')

    def write(self, out):
        out.write('// Made by json_names.py.\n')
        for header in self.headers:
            out.write('#include "proto/%s"\n' % header)
        out.write('\nnamespace {\n\n')
        for name, enum in sorted(self.enums.items()):
            out.write('constexpr EnumValue kEnum_%s[] = {' % c_name(name))
            out.write(''.join('{%d, "%s"}, ' % (v.number, v.name) for v in enum.value))
            out.write('{0, nullptr}};\n')
        for name, message in sorted(self.messages.items()):
            self.write_fields(out, name, message)
        out.write('const MessageNames kMessages[] = {\n')
        for name, message in sorted(self.messages.items()):
            out.write('  {&%s_msg, %s, %d},\n' % (c_name(name), self.fields_name(name, message), len(message.field)))
        out.write('};\n\n}  // namespace\n')

    def fields_name(self, name, message):
        return 'kFields_' + c_name(name) if message.field else 'nullptr'

    def write_fields(self, out, name, message):
        if not message.field:
            return
        out.write('constexpr FieldName kFields_%s[] = {\n' % c_name(name))
        for field in sorted(message.field, key=lambda f: f.name):
            values = 'kEnum_' + c_name(field.type_name) if field.type == F.TYPE_ENUM else 'nullptr'
            out.write('  {"%s", %d, Kind::%s, %s},\n' % (field.name, field.number, self.kind(field), values))
        out.write('};\n')


def main():
    descriptors = descriptor_pb2.FileDescriptorSet()
    with open(sys.argv[1], 'rb') as file:
        descriptors.ParseFromString(file.read())
    with open(sys.argv[2], 'w', encoding='utf-8') as out:
        Table(descriptors).write(out)


main()
