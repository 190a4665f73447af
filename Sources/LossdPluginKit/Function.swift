import CLossdPlugin
import LossdTensor

/// A function of the catalogue: the four steps of plugin.h, whose comments are the contract.
public protocol Function {
  /// What `plan` tells `run`: plain values, the same for every chunk, at most 4096 bytes.
  associatedtype State: BitwiseCopyable

  static var declaration: FunctionDeclaration { get }

  /// Checks shapes, types and attributes, fills in `plan`, and returns what `run` needs. Reads no
  /// element of any tensor.
  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State

  /// Computes units `chunk.range` of pass `chunk.pass`.
  static func run(_ call: Call, _ state: borrowing State, _ chunk: Chunk) throws(StatusError)

  /// From the sums to the values; nil for a value that does not exist (reduction=none has no loss).
  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double?
}

extension Function {
  public static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? { nil }
}

/// The attributes of a call in the order of their declarations, checked, defaults filled in.
public struct Attributes {
  let raw: UnsafePointer<lossd_value>

  public func isPresent(_ index: Int) -> Bool { raw[index].kind != UInt32(LOSSD_VALUE_NONE) }
  public func bool(_ index: Int) -> Bool { raw[index].as.integer != 0 }
  public func int(_ index: Int) -> Int64 { raw[index].as.integer }
  public func float(_ index: Int) -> Double { raw[index].as.floating }

  /// The bytes of a string attribute, without its NUL.
  public func string(_ index: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: raw[index].as.string, count: Int(raw[index].length))
  }

  /// Whether a string attribute is `text`. Does not allocate.
  public func string(_ index: Int, equals text: StaticString) -> Bool {
    let bytes = string(index)
    guard bytes.count == text.utf8CodeUnitCount else { return false }
    for position in 0..<bytes.count where bytes[position] != text.utf8Start[position] {
      return false
    }
    return true
  }
}

/// One evaluation, borrowed from the host.
public struct Call {
  @usableFromInline let raw: UnsafePointer<lossd_call>

  /// The input at this place of the declaration, nil when it was not sent.
  @inlinable public func input(_ index: Int) -> TensorView? {
    TensorView(raw.pointee.inputs[index])
  }

  /// The output at this place of the declaration, nil when nobody wants it. While planning it has
  /// no type, shape or memory yet: use `wants`.
  @inlinable public func output(_ index: Int) -> TensorView? {
    TensorView(raw.pointee.outputs[index])
  }

  @inlinable public func wants(_ index: Int) -> Bool {
    raw.pointee.wanted & (1 << UInt64(index)) != 0
  }

  public var attributes: Attributes { Attributes(raw: raw.pointee.attributes) }

  /// What `plan` stored for `run`.
  @inlinable func state<State: BitwiseCopyable>(as type: State.Type) -> UnsafePointer<State> {
    UnsafePointer(raw.pointee.state.assumingMemoryBound(to: State.self))
  }

  func storeState<State: BitwiseCopyable>(_ state: State) {
    raw.pointee.state.storeBytes(of: state, as: State.self)
  }

  /// Shared by all chunks of all passes; `Plan.workspaceBytes` long.
  @inlinable public var workspace: UnsafeMutableRawPointer { raw.pointee.workspace }

  /// The sums of the passes before this one, in the order of `accumulators`.
  @inlinable public var totals: UnsafePointer<Double> { raw.pointee.totals }

  /// Whether the call was cancelled or ran out of time.
  public var isCancelled: Bool {
    guard let host = raw.pointee.host, let cancelled = host.pointee.cancelled else { return false }
    return cancelled(raw) != 0
  }
}

extension TensorView {
  /// nil when the tensor is absent.
  @inlinable init?(_ raw: lossd_tensor) {
    guard let dataType = DataType(rawValue: raw.data_type) else { return nil }
    self.init(
      data: raw.data, shape: UnsafeBufferPointer(start: raw.shape, count: Int(raw.rank)),
      count: Int(raw.element_count), dataType: dataType)
  }
}

/// What `plan` answers.
public struct Plan {
  let raw: UnsafeMutablePointer<lossd_plan>

  /// The host takes no more rows than this for true.
  private static let rowsMax = 1 << 48

  /// Samples in this batch, for statistics and the Summary of a stream. A tensor without elements
  /// may have more of them than anybody counts; then as many as can be.
  public func setRows(_ rows: Int) { raw.pointee.rows = Int64(min(rows, Plan.rowsMax)) }

  /// A wanted output's type and shape. `isZeroed`: the host clears it before any chunk runs.
  /// `isSeparate`: this time not in the place of the input that `mayOverwrite` names.
  public func setOutput(
    _ index: Int, _ dataType: DataType, shape: UnsafeBufferPointer<Int64>, isZeroed: Bool = false,
    isSeparate: Bool = false
  ) {
    let output = raw.pointee.outputs + index
    output.pointee.data_type = dataType.rawValue
    output.pointee.rank = UInt32(shape.count)
    output.pointee.flags =
      (isZeroed ? UInt32(LOSSD_PLANNED_ZEROED) : 0)
      | (isSeparate ? UInt32(LOSSD_PLANNED_SEPARATE) : 0)
    withUnsafeMutablePointer(to: &output.pointee.shape) { storage in
      storage.withMemoryRebound(to: Int64.self, capacity: Int(LOSSD_RANK_MAX)) {
        for (dimension, size) in shape.enumerated() { $0[dimension] = size }
      }
    }
  }

  /// A wanted scalar output that the host fills from `finish`'s value, rounded once.
  public func setReducedOutput(_ index: Int, _ dataType: DataType, value: Int = 0) {
    let output = raw.pointee.outputs + index
    output.pointee.data_type = dataType.rawValue
    output.pointee.rank = 0
    output.pointee.flags = UInt32(LOSSD_PLANNED_REDUCED)
    output.pointee.value_index = UInt32(value)
  }

  /// Adds a pass of independent units and returns its number. `unitCost` is in nanoseconds, rough.
  @discardableResult
  public func addPass(units: Int, unitCost: Double) -> Int {
    let pass = Int(raw.pointee.pass_count)
    precondition(pass < Int(LOSSD_PASSES_MAX))
    raw.pointee.pass_count += 1
    withUnsafeMutablePointer(to: &raw.pointee.passes) { storage in
      storage.withMemoryRebound(to: lossd_planned_pass.self, capacity: Int(LOSSD_PASSES_MAX)) {
        $0[pass].units = Int64(units)
        $0[pass].unit_cost_ns = unitCost
      }
    }
    return pass
  }

  public func setWorkspace(bytes: Int) { raw.pointee.workspace_bytes = bytes }
  public func setScratch(bytes: Int) { raw.pointee.scratch_bytes = bytes }
}

/// A part of one pass.
public struct Chunk {
  @usableFromInline let raw: UnsafePointer<lossd_chunk>
  @usableFromInline let host: UnsafePointer<lossd_host>

  @inlinable public var pass: Int { Int(raw.pointee.pass) }
  @inlinable public var range: Range<Int> { Int(raw.pointee.begin)..<Int(raw.pointee.end) }
  /// This chunk's accumulators of kind `.plain`, zero at its start.
  @inlinable public var sums: UnsafeMutablePointer<Double> { raw.pointee.accumulator }

  /// Adds a number to an accumulator of kind `.sum`, without rounding.
  @inlinable public func add(_ value: Double, to index: Int) {
    withUnsafePointer(to: value) { add($0, 1, to: index) }
  }

  /// Adds `count` numbers.
  @inlinable public func add(_ values: UnsafePointer<Double>, _ count: Int, to index: Int) {
    // The host has it: a plugin of this minor version is refused by those that have not.
    host.pointee.add_to_sum.unsafelyUnwrapped(raw, UInt32(index), values, count)
  }

  /// Adds a number `count` times, as if one by one: the product may be no float64.
  @inlinable public func add(_ value: Double, times count: Int, to index: Int) {
    let factor = Double(count)
    let product = value * factor
    add(product, to: index)
    let rest = (-product).addingProduct(value, factor)
    if rest.isFinite { add(rest, to: index) }
  }

  /// Adds `count` numbers of what a loss computes in.
  @inlinable func add<T: LossScalar>(_ values: UnsafePointer<T>, _ count: Int, to index: Int) {
    let raw = UnsafeRawPointer(values)
    if T.self == Double.self {
      return add(raw.assumingMemoryBound(to: Double.self), count, to: index)
    }
    if let exact = ExactParts(raw.assumingMemoryBound(to: Float.self), count) {
      return withUnsafeBytes(of: exact.parts) {
        // Three of them, one behind the other.
        add($0.assumingMemoryBound(to: Double.self).baseAddress.unsafelyUnwrapped, 3, to: index)
      }
    }
    for place in 0..<count { add(values[place].double, to: index) }
  }
  /// `Plan.setScratch`'s bytes, 64-byte-aligned, this chunk's alone.
  @inlinable public var scratch: UnsafeMutableRawPointer { raw.pointee.scratch }
}
