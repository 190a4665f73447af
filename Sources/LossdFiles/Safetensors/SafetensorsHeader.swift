import LossdTensor

/// What a .safetensors file says about its tensors: 8 bytes of length, JSON of that length,
/// elements. https://huggingface.co/docs/safetensors
struct SafetensorsHeader: Equatable {
  /// One tensor; `begin` and `end` are in bytes from the end of the header.
  struct Tensor: Equatable {
    var name: String
    var storedType: String
    var shape: [Int]
    var begin: Int
    var end: Int

    /// nil for a type that lossd has no match for.
    var dataType: DataType? { SafetensorsHeader.dataTypes[storedType] }
  }

  /// The reference implementation's limit.
  static let lengthMax = 100_000_000
  static let rankMax = NPYHeader.rankMax

  static let dataTypes: [String: DataType] = [
    "F64": .float64, "F32": .float32, "F16": .float16, "BF16": .bfloat16, "I64": .int64,
    "I32": .int32, "I16": .int16, "I8": .int8, "U8": .uint8, "BOOL": .bool,
  ]
  static let supportedTypes = "F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL"

  var tensors: [Tensor] = []
  var metadata: [String: String] = [:]
  /// Where the elements start in the file.
  var dataOffset = 0

  /// The header of a whole file; checks the tensors' places against each other and the file.
  static func parse(_ file: UnsafeRawBufferPointer) throws(HeaderFlaw) -> SafetensorsHeader {
    guard file.count >= 8 else {
      throw HeaderFlaw(
        .truncated, "the file ends after \(file.count) bytes, within the header's length")
    }
    let length = UInt64(littleEndian: file.loadUnaligned(as: UInt64.self))
    guard length <= lengthMax else {
      throw HeaderFlaw(
        .unsupported, "its header has \(length) bytes, expected at most \(lengthMax)")
    }
    let end = 8 + Int(length)
    guard file.count >= end else {
      throw HeaderFlaw(
        .truncated,
        "the file ends after \(file.count) bytes, within its header of \(length) bytes from byte 8")
    }
    var parser = SafetensorsParser(scanner: HeaderScanner(file[8..<end]))
    var header = try parser.header()
    header.dataOffset = end
    for tensor in header.tensors { try tensor.checkSize() }
    try header.checkPlaces(available: file.count - end)
    return header
  }

  /// The tensors have to fill the rest of the file, without overlap or hole.
  private func checkPlaces(available: Int) throws(HeaderFlaw) {
    let sorted = tensors.sorted { ($0.begin, $0.end) < ($1.begin, $1.end) }
    var position = 0
    for tensor in sorted {
      if tensor.begin != position {
        throw HeaderFlaw(
          .malformed,
          "tensor \(quoted(tensor.name)) begins at byte \(tensor.begin), expected \(position), "
            + "where the one before it ends")
      }
      position = tensor.end
    }
    if available != position {
      throw HeaderFlaw(
        available < position ? .truncated : .malformed,
        "\(available) bytes follow the header, expected \(position) for its tensors")
    }
  }
}

extension SafetensorsHeader.Tensor {
  /// That the bytes are as many as shape and type need. Types that lossd does not know are left
  /// out.
  fileprivate func checkSize() throws(HeaderFlaw) {
    guard begin <= end else {
      throw HeaderFlaw(
        .malformed, "tensor \(quoted(name)) has data_offsets [\(begin), \(end)], the end first")
    }
    guard let dataType else { return }
    let sizes = shape.lazy.map { Int64($0) }
    guard let count = checkedElementCount(sizes, byteSize: dataType.byteSize) else {
      throw HeaderFlaw(
        .malformed,
        "tensor \(quoted(name)) of \(storedType) \(shapeText(sizes)) exceeds 2^63 - 1 bytes")
    }
    guard end - begin == count * dataType.byteSize else {
      throw HeaderFlaw(
        .malformed,
        "tensor \(quoted(name)) has data_offsets [\(begin), \(end)], expected "
          + "\(count * dataType.byteSize) bytes for \(storedType) \(shapeText(sizes))")
    }
  }
}
