import CLossdProto
import CProtobufC
import LossdTensor

/// gRPC's server reflection: what is asked for. v1 and v1alpha have the same bytes.
public struct ReflectionRequest {
  public enum Question: Equatable {
    case file(name: String)
    case symbol(String)
    /// An extension of this type, or all of them: proto3 has none.
    case extensions(of: String)
    case services
    case none
  }

  public let question: Question
  fileprivate let raw: UnsafeMutablePointer<Grpc__Reflection__V1__ServerReflectionRequest>

  /// A view, valid until the arena is reset. INVALID_ARGUMENT when it does not decode.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    raw = try arena.decode(grpc__reflection__v1__server_reflection_request__init, bytes)
    let request = raw.pointee
    // protoc-c's constants for them are the fields' numbers, under names longer than a line.
    switch request.message_request_case.rawValue {
    case 3: question = .file(name: textString(request.file_by_filename))
    case 4: question = .symbol(textString(request.file_containing_symbol))
    case 5:
      question = .extensions(
        of: textString(request.file_containing_extension?.pointee.containing_type))
    case 6: question = .extensions(of: textString(request.all_extension_numbers_of_type))
    case 7: question = .services
    default: question = .none
    }
  }
}

/// What is answered.
public enum ReflectionAnswer {
  /// A serialized FileDescriptorProto.
  case file(UnsafeRawBufferPointer)
  case services([String])
  case error(StatusCode, String)
}

extension OutputBuffer {
  /// The message alone, which says again what was asked.
  public func encodeMessage(reflection answer: ReflectionAnswer, to request: ReflectionRequest) {
    defer { scratch.reset() }
    let raw = scratch.make(grpc__reflection__v1__server_reflection_response__init)
    raw.pointee.valid_host = request.raw.pointee.host
    raw.pointee.original_request = request.raw
    switch answer {
    case .file(let bytes):
      let list = scratch.make(grpc__reflection__v1__file_descriptor_response__init)
      list.pointee.n_file_descriptor_proto = 1
      let file = scratch.array(of: ProtobufCBinaryData.self, count: 1)
      // protobuf-c only reads through this pointer.
      file.initialize(
        to: ProtobufCBinaryData(
          len: bytes.count,
          data: UnsafeMutablePointer(mutating: bytes.bindMemory(to: UInt8.self).baseAddress)))
      list.pointee.file_descriptor_proto = file
      raw.pointee.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE
      raw.pointee.file_descriptor_response = list
    case .services(let names):
      let list = scratch.make(grpc__reflection__v1__list_service_response__init)
      list.pointee.n_service = names.count
      list.pointee.service = scratch.list(names.count) { index in
        let service = scratch.make(grpc__reflection__v1__service_response__init)
        service.pointee.name = scratch.text(names[index])
        return service
      }
      raw.pointee.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE
      raw.pointee.list_services_response = list
    case .error(let code, let text):
      let error = scratch.make(grpc__reflection__v1__error_response__init)
      error.pointee.error_code = Int32(code.rawValue)
      error.pointee.error_message = scratch.text(text)
      raw.pointee.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE
      raw.pointee.error_response = error
    }
    appendMessage(raw)
  }
}

/// The descriptors of the daemon's services, as the build has them.
public enum Descriptors {
  /// The FileDescriptorProto of this file; nil: there is none.
  public static func file(named name: String) -> UnsafeRawBufferPointer? {
    for index in 0..<lossd_descriptor_file_count
    where textString(lossd_descriptor_file_at(index)?.pointee.name) == name {
      return bytes(index)
    }
    return nil
  }

  /// The FileDescriptorProto that declares this full name; nil: none does.
  public static func file(declaring symbol: String) -> UnsafeRawBufferPointer? {
    let wanted = Array(symbol.utf8)
    var low = 0
    var high = lossd_descriptor_symbol_count
    while low < high {
      let middle = (low + high) / 2
      guard let entry = lossd_descriptor_symbol_at(middle) else { return nil }
      let name = textBytes(entry.pointee.name)
      if name.elementsEqual(wanted) { return bytes(entry.pointee.file) }
      if name.lexicographicallyPrecedes(wanted) { low = middle + 1 } else { high = middle }
    }
    return nil
  }

  private static func bytes(_ index: Int) -> UnsafeRawBufferPointer? {
    lossd_descriptor_file_at(index).map {
      UnsafeRawBufferPointer(start: $0.pointee.bytes, count: $0.pointee.count)
    }
  }
}
