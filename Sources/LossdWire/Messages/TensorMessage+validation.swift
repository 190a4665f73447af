import LossdTensor

extension TensorMessage {
  /// The name as error texts show it.
  public var displayName: String { name.isEmpty ? "a tensor without a name" : displayText(name) }

  /// Type, rank and shape, checked. INVALID_ARGUMENT otherwise, in a text that begins with the
  /// name.
  public func layout() throws(StatusError) -> TensorLayout {
    guard let type = DataType(rawValue: dataType) else {
      throw invalid("data_type is \(dataType), expected 1 (float32) to 10 (bool)")
    }
    if shape.count > TensorLayout.maxRank {
      throw invalid(
        "the shape has \(shape.count) dimensions, expected at most \(TensorLayout.maxRank)")
    }
    for (index, size) in shape.enumerated() where size < 0 {
      throw invalid("shape[\(index)] is \(size), expected at least 0")
    }
    guard let count = checkedElementCount(shape, byteSize: type.byteSize) else {
      throw invalid("the shape \(shapeText(shape)) of \(type) reaches 2^63 bytes")
    }
    return TensorLayout(dataType: type, shape: shape, count: count)
  }

  /// The tensor with its bytes, after every check but those of the elements themselves (see
  /// `validateBools`). INVALID_ARGUMENT otherwise, in a text that begins with the name;
  /// FAILED_PRECONDITION for shared memory, which the caller resolves itself where it has some.
  ///
  /// A payload tensor points into `payload`, at a multiple of 64 bytes. An inline one points into
  /// the message's arena and is aligned to 16 bytes only: copy it to aligned memory where a kernel
  /// needs more. An empty one has no memory.
  /// - Parameter hasPayload: false on transports that have none: `payload` is then refused.
  public func validated(
    payload: UnsafeMutableRawBufferPointer, hasPayload: Bool = true
  ) throws(StatusError) -> TensorView {
    let layout = try layout()
    var data: UnsafeMutableRawPointer?
    switch storage {
    case .none:
      if layout.count != 0 {
        throw invalid("no storage is set, expected \(layout.byteCount) bytes")
      }
    case .inline(let bytes):
      if bytes.count != layout.byteCount {
        throw invalid(
          "data has \(bytes.count) bytes, expected \(layout.byteCount) "
            + "(\(layout.dataType) \(shapeText(shape)))")
      }
      data = UnsafeMutableRawPointer(mutating: bytes.baseAddress)
    case .payload(let offset, let length):
      if !hasPayload { throw invalid("payload is set, but this transport has none; use data") }
      try validateRange(
        displayName, offset: offset, length: length, payloadLength: payload.count,
        elementCount: layout.count, byteSize: layout.dataType.byteSize)
      if layout.count != 0 { data = payload.baseAddress.map { $0 + Int(offset) } }
    case .shared:
      throw StatusError(
        .failedPrecondition, "\(displayName): shared memory is not available on this connection")
    }
    return TensorView(
      data: layout.count == 0 ? nil : data, shape: layout.shape, count: layout.count,
      dataType: layout.dataType)
  }

  private func invalid(_ what: String) -> StatusError {
    StatusError(.invalidArgument, "\(displayName): \(what)")
  }
}

/// Checks that a bool tensor's bytes are 0 or 1; reads all of them, so for big ones not on a loop.
/// Other types pass. `name` is the tensor's, for the text.
public func validateBools(
  _ name: @autoclosure () -> String, _ tensor: TensorView
) throws(StatusError) {
  guard tensor.dataType == .bool, let data = tensor.data else { return }
  let bytes = UnsafeRawBufferPointer(start: data, count: tensor.count)
  var index = 0
  while index + 8 <= bytes.count {
    let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
    if word & ~0x0101_0101_0101_0101 != 0 { break }
    index += 8
  }
  while index < bytes.count {
    if bytes[index] > 1 {
      throw StatusError(
        .invalidArgument,
        "\(name()): element \(index) is \(bytes[index]), expected a bool of 0 or 1")
    }
    index += 1
  }
}
