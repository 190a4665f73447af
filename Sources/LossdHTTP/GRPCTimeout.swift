/// gRPC's `grpc-timeout`: one to eight digits, and a unit.
enum GRPCTimeout {
  /// A year: no call takes longer, and sums of it do not overflow.
  static let nanosecondsMax: UInt64 = 365 * 24 * 3_600_000_000_000

  /// Nanoseconds, at most `nanosecondsMax`; nil: it is malformed.
  static func parse(_ text: UnsafeRawBufferPointer) -> UInt64? {
    guard text.count >= 2, text.count <= 9, let unit = text.last else { return nil }
    var value: UInt64 = 0
    for byte in text.dropLast() {
      guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
      value = value * 10 + UInt64(byte - UInt8(ascii: "0"))
    }
    let factor: UInt64
    switch unit {
    case UInt8(ascii: "H"): factor = 3_600_000_000_000
    case UInt8(ascii: "M"): factor = 60_000_000_000
    case UInt8(ascii: "S"): factor = 1_000_000_000
    case UInt8(ascii: "m"): factor = 1_000_000
    case UInt8(ascii: "u"): factor = 1_000
    case UInt8(ascii: "n"): factor = 1
    default: return nil
    }
    // 10^8 hours are below 2^69: one step of saturation is enough.
    let (product, overflow) = value.multipliedReportingOverflow(by: factor)
    return overflow ? nanosecondsMax : min(product, nanosecondsMax)
  }
}
