import LossdTensor

// An EvaluateResponse with its tensors in the message, for transports that have no payload beside
// it. What lies in the payload on lossd's own wire is `data` here, and is not copied: the caller
// puts it where its bytes belong. A hot path.
extension OutputBuffer {
  /// The bytes of the whole message, data included.
  public func inlineByteCount(_ response: OutgoingResponse) -> Int {
    var count = response.id == 0 ? 0 : 1 + varintByteCount(response.id)
    for tensor in response.outputs {
      let size = byteCount(tensor)
      count += 1 + varintByteCount(UInt64(size)) + size
    }
    if let summary = response.summary {
      let size = byteCount(summary)
      count += 1 + varintByteCount(UInt64(size)) + size
    }
    return count
  }

  /// Appends the message but for its data: `data` is called where `length` bytes of the payload
  /// from `offset` on follow. It may append to this buffer.
  public func encodeInline(
    _ response: OutgoingResponse, data: (_ offset: Int, _ length: Int) -> Void
  ) {
    if response.id != 0 {
      append(byte: 0x08)
      append(varint: response.id)
    }
    for tensor in response.outputs {
      append(byte: 0x12)
      append(varint: UInt64(byteCount(tensor)))
      append(tensor, data)
    }
    guard let summary = response.summary else { return }
    append(byte: 0x1A)
    append(varint: UInt64(byteCount(summary)))
    append(summary)
  }

  // MARK: - Tensors

  private func byteCount(_ tensor: OutgoingTensor) -> Int {
    var count = 0
    if tensor.name.count > 0 {
      count += 1 + varintByteCount(UInt64(tensor.name.count)) + tensor.name.count
    }
    count += 1 + varintByteCount(UInt64(tensor.dataType.rawValue))
    if tensor.shape.count > 0 {
      let size = shapeByteCount(tensor.shape)
      count += 1 + varintByteCount(UInt64(size)) + size
    }
    if case .payload(_, let length) = tensor.storage {
      count += 1 + varintByteCount(length) + Int(length)
    }
    return count
  }

  private func shapeByteCount(_ shape: UnsafeBufferPointer<Int64>) -> Int {
    var count = 0
    for size in shape { count += varintByteCount(UInt64(bitPattern: size)) }
    return count
  }

  private func append(_ tensor: OutgoingTensor, _ data: (Int, Int) -> Void) {
    if tensor.name.count > 0 { append(tag: 0x0A, tensor.name) }
    append(byte: 0x10)
    append(varint: UInt64(tensor.dataType.rawValue))
    if tensor.shape.count > 0 {
      append(byte: 0x1A)
      append(varint: UInt64(shapeByteCount(tensor.shape)))
      for size in tensor.shape { append(varint: UInt64(bitPattern: size)) }
    }
    if case .payload(let offset, let length) = tensor.storage {
      append(byte: 0x22)
      append(varint: length)
      data(Int(offset), Int(length))
    }
  }

  // MARK: - The Summary

  private func byteCount(_ summary: OutgoingSummary) -> Int {
    var count = 0
    if summary.batches != 0 { count += 1 + varintByteCount(summary.batches) }
    if summary.rows != 0 { count += 1 + varintByteCount(summary.rows) }
    for value in summary.values { count += entryByteCount(value) }
    for value in summary.state { count += entryByteCount(value) }
    if let whole = summary.whole {
      let size = whole.packed.count
      count += 1 + varintByteCount(UInt64(size)) + size
    }
    return count
  }

  private func entryByteCount(_ entry: NamedValue) -> Int {
    let size = valueByteCount(entry)
    return 1 + varintByteCount(UInt64(size)) + size
  }

  private func valueByteCount(_ entry: NamedValue) -> Int {
    1 + varintByteCount(UInt64(entry.name.count)) + entry.name.count + 9
  }

  private func append(_ summary: OutgoingSummary) {
    if summary.batches != 0 {
      append(byte: 0x08)
      append(varint: summary.batches)
    }
    if summary.rows != 0 {
      append(byte: 0x10)
      append(varint: summary.rows)
    }
    for value in summary.values { append(tag: 0x1A, value) }
    for value in summary.state { append(tag: 0x22, value) }
    if let whole = summary.whole { whole.packed.withUnsafeBytes { append(tag: 0x2A, $0) } }
  }

  private func append(tag: UInt8, _ entry: NamedValue) {
    append(byte: tag)
    append(varint: UInt64(valueByteCount(entry)))
    append(tag: 0x0A, entry.name)
    append(byte: 0x11)
    extend(by: 8).storeBytes(of: entry.value.bitPattern.littleEndian, as: UInt64.self)
  }

  // MARK: - Fields

  private func append(tag: UInt8, _ text: UnsafeRawBufferPointer) {
    append(byte: tag)
    append(varint: UInt64(text.count))
    append(text)
  }

  private func append(byte: UInt8) { extend(by: 1).storeBytes(of: byte, as: UInt8.self) }

  private func append(varint value: UInt64) {
    var value = value
    let count = varintByteCount(value)
    let place = extend(by: count)
    for index in 0..<count {
      let part = UInt8(truncatingIfNeeded: value) & 0x7F
      place.storeBytes(
        of: index + 1 < count ? part | 0x80 : part, toByteOffset: index, as: UInt8.self)
      value >>= 7
    }
  }
}

private func varintByteCount(_ value: UInt64) -> Int {
  (70 - max(value | 1, 1).leadingZeroBitCount) / 7
}
