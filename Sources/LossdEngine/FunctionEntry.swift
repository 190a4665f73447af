// LossdEngine: evaluates a function in this process. It keeps the registry of functions, checks a
// request against a function's declarations, plans, cuts the work into chunks, runs them on worker
// threads and adds up the sums. It sees no socket, no frame and no file.
import CLinux
import CLossdPlugin
import Glibc
import LossdTensor

/// What a function's code lives in: kept alive by every entry of its functions, and so by every
/// call.
public protocol FunctionOwner: AnyObject, Sendable {
  /// Whether its functions run elsewhere: the descriptors here then only declare.
  var isElsewhere: Bool { get }
}

/// A function that can be called, and the version of the plugin that it comes from.
///
/// `@unchecked Sendable`: the descriptor and all it points to are immutable by plugin.h's rules.
public final class FunctionEntry: @unchecked Sendable {
  public let name: String
  public let plugin: String
  public let pluginVersion: String
  public let function: UnsafePointer<lossd_function>
  /// Bit i: accumulator i is of plugin.h's kind LOSSD_SUM.
  private let sumKinds: UInt64
  /// The library that the function is from; nil: the program itself.
  public let owner: (any FunctionOwner)?
  /// Whether it runs elsewhere, not in this engine.
  public let isElsewhere: Bool
  /// What a thread inside of the function is doing, for who asks: `clinux_activity`.
  let activity: UnsafeMutablePointer<CChar>?

  init(
    checked function: UnsafePointer<lossd_function>, plugin: String, pluginVersion: String,
    owner: (any FunctionOwner)? = nil
  ) {
    self.function = function
    sumKinds = function.known.sumKinds
    self.owner = owner
    isElsewhere = owner?.isElsewhere ?? false
    activity =
      owner == nil
      ? nil
      : strdup(
        "plugin \(plugin) \(pluginVersion), function \(String(cString: function.pointee.name))")
    self.plugin = plugin
    self.pluginVersion = pluginVersion
    name = String(cString: function.pointee.name)
  }

  deinit { free(activity) }

  /// Whether others wrote it: its answers are checked, it runs apart from loops, and what it leaves
  /// unwritten is zeros.
  public var isForeign: Bool { owner != nil }

  public var inputs: UnsafeBufferPointer<lossd_input> {
    .init(start: function.pointee.inputs, count: Int(function.pointee.input_count))
  }

  public var outputs: UnsafeBufferPointer<lossd_output> {
    .init(start: function.pointee.outputs, count: Int(function.pointee.output_count))
  }

  public var attributes: UnsafeBufferPointer<lossd_attribute> {
    .init(start: function.pointee.attributes, count: Int(function.pointee.attribute_count))
  }

  /// Whether sums are merged by a callback of the function's, not added.
  public var mergesByItself: Bool { function.pointee.merge != nil }
  /// Whether an accumulator is added to by host->add_to_sum alone.
  func isSum(_ index: Int) -> Bool { sumKinds & 1 << UInt64(index) != 0 }
  /// Whether the function's sums do not depend on how the data was cut.
  public var isOrderFree: Bool {
    accumulatorCount > 0 && sumKinds == (1 << UInt64(accumulatorCount)) - 1
  }
  public var accumulatorCount: Int { Int(function.pointee.accumulator_count) }
  public var valueCount: Int { Int(function.pointee.value_count) }

  public func accumulatorName(_ index: Int) -> UnsafePointer<CChar> {
    // Checked on registration: there are accumulator_count names, none NULL.
    function.pointee.accumulators[index].unsafelyUnwrapped
  }

  public func valueName(_ index: Int) -> UnsafePointer<CChar> {
    function.pointee.values[index].unsafelyUnwrapped
  }

  /// The output that a request naming none gets.
  public var defaultOutput: Int {
    outputs.firstIndex { $0.flags & UInt32(LOSSD_OUTPUT_DEFAULT) != 0 } ?? 0
  }

  /// Whether this input stays from request to request of a stream.
  public func isKept(_ index: Int) -> Bool {
    inputs[index].flags & UInt32(LOSSD_INPUT_KEPT) != 0
  }

  public func input(named name: UnsafeRawBufferPointer) -> Int? {
    inputs.firstIndex { matches($0.name, name) }
  }

  public func output(named name: UnsafeRawBufferPointer) -> Int? {
    outputs.firstIndex { matches($0.name, name) }
  }

  public func attribute(named name: UnsafeRawBufferPointer) -> Int? {
    attributes.firstIndex { matches($0.name, name) }
  }
}

/// Whether a C string and some bytes are the same text.
@inline(__always)
func matches(_ text: UnsafePointer<CChar>, _ bytes: UnsafeRawBufferPointer) -> Bool {
  var index = 0
  while index < bytes.count {
    let unit = UInt8(bitPattern: text[index])
    if unit == 0 || unit != bytes[index] { return false }
    index += 1
  }
  return text[index] == 0
}

extension UnsafePointer where Pointee == lossd_function {
  /// The function as far as its maker has written it, who may know an older version of plugin.h:
  /// what came later is 0.
  public var known: lossd_function {
    var function = lossd_function()
    let count = Swift.min(Int(pointee.struct_size), MemoryLayout<lossd_function>.size)
    withUnsafeMutableBytes(of: &function) { bytes in
      bytes.copyMemory(from: UnsafeRawBufferPointer(start: self, count: count))
    }
    return function
  }
}

extension lossd_function {
  /// Bytes of plugin.h 1.0's.
  static let leastSize = MemoryLayout<lossd_function>.offset(of: \.accumulator_kinds) ?? 0

  /// LOSSD_PLAIN or LOSSD_SUM, of a function as it is `known`.
  public func kind(ofAccumulator index: Int) -> UInt32 {
    accumulator_kinds?[index] ?? UInt32(LOSSD_PLAIN)
  }

  fileprivate var sumKinds: UInt64 {
    (0..<Int(accumulator_count)).reduce(0) { bits, index in
      kind(ofAccumulator: index) == UInt32(LOSSD_SUM) ? bits | 1 << UInt64(index) : bits
    }
  }
}
