import CLinux
import CLossdPlugin
import CPluginCalls
import LossdTensor

// The calls into a function. The program's own are called as they are. A library's are called so
// that a C++ exception becomes an error, the floating-point mode is restored afterwards, and the
// thread says meanwhile what it is doing.
extension FunctionEntry {
  typealias Error = UnsafeMutablePointer<lossd_error>

  @inline(__always)
  func plan(
    _ call: UnsafePointer<lossd_call>, _ plan: UnsafeMutablePointer<lossd_plan>, _ error: Error
  ) -> Int32 {
    isForeign
      ? guarded { plugincalls_plan(call, plan, error) } : function.pointee.plan(call, plan, error)
  }

  @inline(__always)
  func run(
    _ call: UnsafePointer<lossd_call>, _ chunk: UnsafePointer<lossd_chunk>, _ error: Error
  ) -> Int32 {
    isForeign
      ? guarded { plugincalls_run(call, chunk, error) } : function.pointee.run(call, chunk, error)
  }

  /// Only where the function merges by itself.
  func merge(
    _ into: UnsafeMutablePointer<Double>, _ from: UnsafePointer<Double>, _ error: Error
  ) -> Int32 {
    if isForeign { return guarded { plugincalls_merge(function, into, from, error) } }
    function.pointee.merge(function, into, from)
    return LOSSD_OK
  }

  /// Only where the function has values.
  func finish(
    _ attributes: UnsafePointer<lossd_value>, _ sums: UnsafePointer<Double>,
    _ values: UnsafeMutablePointer<Double>, _ present: UnsafeMutablePointer<UInt64>, _ error: Error
  ) -> Int32 {
    isForeign
      ? guarded { plugincalls_finish(function, attributes, sums, values, present, error) }
      : function.pointee.finish(function, attributes, sums, values, present, error)
  }

  @inline(__always)
  private func guarded(_ body: () -> Int32) -> Int32 {
    let mode = clinux_float_mode()
    let before = clinux_set_activity(activity)
    defer {
      clinux_set_activity(before)
      clinux_set_float_mode(mode)
    }
    return body()
  }

  /// A zeroed place for an error's text.
  static func noError() -> lossd_error {
    var error = lossd_error()
    error.struct_size = UInt32(MemoryLayout<lossd_error>.size)
    return error
  }
}

extension StatusError {
  /// What a callback of the function `name` returned and said.
  init(_ name: String, _ code: Int32, _ error: lossd_error) {
    let text = withUnsafeBytes(of: error.text) { bytes in
      PluginLog.harmless(bytes.prefix { $0 != 0 })
    }
    let status = StatusCode(rawValue: UInt32(bitPattern: code)) ?? .internal
    self.init(
      status == .ok ? .internal : status, "\(name): \(text.isEmpty ? "failed" : text)")
  }
}
