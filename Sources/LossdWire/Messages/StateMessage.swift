import CLossdProto

/// What a function has added up, before it is rounded: lossd.v1.State.
public struct StateMessage: Sendable, Equatable {
  public struct Sum: Sendable, Equatable {
    public var name: String
    /// `ExactSum.bytes`.
    public var exact: [UInt8]

    public init(name: String, exact: [UInt8]) {
      self.name = name
      self.exact = exact
    }
  }

  public var function: String
  /// Names of the kernels that computed it, with commas between.
  public var kernels: String
  public var sums: [Sum]

  public init(function: String, kernels: String, sums: [Sum]) {
    self.function = function
    self.kernels = kernels
    self.sums = sums
  }

  init(_ raw: Lossd__V1__State) {
    function = textString(raw.function)
    kernels = textString(raw.kernels)
    sums = mapList(raw.sums, raw.n_sums) { sum in
      let bytes = UnsafeRawBufferPointer(start: sum.exact.data, count: sum.exact.len)
      return Sum(name: textString(sum.name), exact: Array(bytes))
    }
  }

  /// As protobuf has it.
  public var packed: [UInt8] {
    let arena = MessageArena()
    let raw = build(arena)
    let count = lossd__v1__state__get_packed_size(raw)
    return [UInt8](unsafeUninitializedCapacity: count) { bytes, initialized in
      initialized = lossd__v1__state__pack(raw, bytes.baseAddress)
    }
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__State> {
    let raw = arena.make(lossd__v1__state__init)
    raw.pointee.function = arena.text(function)
    raw.pointee.kernels = arena.text(kernels)
    raw.pointee.n_sums = sums.count
    raw.pointee.sums = arena.list(sums.count) { index in
      let sum = arena.make(lossd__v1__sum__init)
      sum.pointee.name = arena.text(sums[index].name)
      sum.pointee.exact = sums[index].exact.withUnsafeBytes { arena.bytes($0) }
      return sum
    }
    return raw
  }
}
