import CProtobufC
import LossdTensor

/// One of protoc-c's generated `..._init` functions: it also knows the message's descriptor.
typealias MessageInit<T> = (UnsafeMutablePointer<T>?) -> Void

extension MessageArena {
  /// An empty message to be filled in and packed.
  func make<T>(_ initialise: MessageInit<T>) -> UnsafeMutablePointer<T> {
    let message = array(of: T.self, count: 1)
    initialise(message)
    return message
  }

  /// Uninitialised memory for `count` values.
  func array<T>(of type: T.Type, count: Int) -> UnsafeMutablePointer<T> {
    allocate(byteCount: count * MemoryLayout<T>.stride).bindMemory(to: type, capacity: count)
  }

  /// Unpacks a message into this arena. INVALID_ARGUMENT when it does not decode,
  /// RESOURCE_EXHAUSTED when it asks for more memory than its size explains.
  func decode<T>(
    _ initialise: MessageInit<T>, _ bytes: UnsafeRawBufferPointer
  ) throws(StatusError) -> UnsafeMutablePointer<T> {
    // Every generated struct begins with its ProtobufCMessage.
    let probe = UnsafeRawPointer(make(initialise)).assumingMemoryBound(to: ProtobufCMessage.self)
    guard let descriptor = probe.pointee.descriptor else {
      throw StatusError(.internal, "a message without a descriptor")
    }
    let fields = try WireScan.check(bytes, descriptor, fieldsMax: fieldsMax)
    let message = protobuf_c_message_unpack(
      descriptor, beginDecoding(messageBytes: bytes.count, fields: fields), bytes.count,
      bytes.bindMemory(to: UInt8.self).baseAddress)
    if let message { return UnsafeMutableRawPointer(message).assumingMemoryBound(to: T.self) }
    let name = textString(descriptor.pointee.short_name)
    throw isExhausted
      ? StatusError(
        .resourceExhausted,
        "\(name): \(bytes.count) bytes with \(fields) fields take more memory than they should")
      : StatusError(.invalidArgument, "the message does not decode: \(name)")
  }

  /// A C string of UTF-8 bytes, which must have no NUL.
  func text(_ bytes: UnsafeRawBufferPointer) -> UnsafeMutablePointer<CChar> {
    let text = array(of: CChar.self, count: bytes.count + 1)
    if let source = bytes.baseAddress {
      UnsafeMutableRawPointer(text).copyMemory(from: source, byteCount: bytes.count)
    }
    text[bytes.count] = 0
    return text
  }

  /// A C string; a NUL, which it cannot hold, becomes a space.
  func text(_ string: String) -> UnsafeMutablePointer<CChar> {
    var string = string
    return string.withUTF8 { utf8 in
      let text = self.text(UnsafeRawBufferPointer(utf8))
      for index in 0..<utf8.count where text[index] == 0 { text[index] = 0x20 }
      return text
    }
  }

  /// A field of bytes.
  func bytes(_ bytes: UnsafeRawBufferPointer) -> ProtobufCBinaryData {
    let copy = array(of: UInt8.self, count: max(bytes.count, 1))
    if let source = bytes.baseAddress {
      UnsafeMutableRawPointer(copy).copyMemory(from: source, byteCount: bytes.count)
    }
    return ProtobufCBinaryData(len: bytes.count, data: copy)
  }

  /// An array of pointers to messages, as protobuf-c holds repeated ones; nil for none.
  func list<T>(
    _ count: Int, _ element: (Int) -> UnsafeMutablePointer<T>
  ) -> UnsafeMutablePointer<UnsafeMutablePointer<T>?>? {
    if count == 0 { return nil }
    let list = array(of: UnsafeMutablePointer<T>?.self, count: count)
    for index in 0..<count { (list + index).initialize(to: element(index)) }
    return list
  }
}
