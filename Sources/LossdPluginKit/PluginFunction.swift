import CLossdPlugin
import LossdTensor

/// A function of a plugin, for `plugin(_:name:version:_:)`.
///
/// The makers are inlined into the plugin's module: there the compiler knows the loss, and
/// specialises the kit's loops for it.
public struct PluginFunction {
  let descriptor: UnsafePointer<lossd_function>

  @usableFromInline init(
    _ declaration: FunctionDeclaration, stateBytes: Int, _ steps: LossSteps
  ) {
    precondition(
      stateBytes <= Int(LOSSD_STATE_BYTES_MAX), "\(declaration.name) has too many members")
    descriptor = makeFunction(declaration, stateBytes: stateBytes, LossBox(steps))
  }

  init(_ descriptor: UnsafePointer<lossd_function>) { self.descriptor = descriptor }

  /// A loss that is a formula of one input element and one target element.
  @inlinable public static func elementwise<F: ElementwiseLoss>(_ loss: F.Type) -> PluginFunction {
    PluginFunction(
      elementwiseDeclaration(loss), stateBytes: MemoryLayout<ElementwiseState<F>>.size,
      LossSteps(
        attributeCount: F.attributes.count,
        plan: { (call, plan) throws(StatusError) in try F.planElements(call, plan) },
        run: { (call, chunk) throws(StatusError) in try F.runElements(call, chunk) }))
  }

  /// A loss of a row of classes.
  @inlinable public static func rowwise<F: RowwiseLoss>(_ loss: F.Type) -> PluginFunction {
    PluginFunction(
      rowwiseDeclaration(loss), stateBytes: MemoryLayout<RowwiseState<F>>.size,
      LossSteps(
        attributeCount: F.attributes.count,
        plan: { (call, plan) throws(StatusError) in try F.planRows(call, plan) },
        run: { (call, chunk) throws(StatusError) in try F.runRows(call, chunk) }))
  }

  /// Anything else: the four steps by hand.
  public static func function<F: Function>(_ function: F.Type) -> PluginFunction {
    PluginFunction(makeFunction(function))
  }
}

@usableFromInline func elementwiseDeclaration<F: ElementwiseLoss>(_: F.Type) -> FunctionDeclaration
{
  F.declaration
}

@usableFromInline func rowwiseDeclaration<F: RowwiseLoss>(_: F.Type) -> FunctionDeclaration {
  F.declaration
}

/// What `lossd_plugin_entry` returns:
///
///     @_cdecl("lossd_plugin_entry")
///     public func entry(_ host: UnsafeRawPointer?) -> UnsafeRawPointer? {
///       plugin(host, name: "my_loss", version: "1.0", [.elementwise(MyLoss.self)])
///     }
///
/// nil, with a line in the daemon's log, where it was built for a processor with more instructions.
public func plugin(
  _ host: UnsafeRawPointer?, name: String, version: String, _ functions: [PluginFunction]
) -> UnsafeRawPointer? {
  if let missing = lossd_missing_instructions() {
    let host = host?.assumingMemoryBound(to: lossd_host.self)
    let text =
      "plugin \(name) is built for \(String(cString: missing)), which this processor lacks"
    text.withCString { host?.pointee.log?(host, LOSSD_LOG_ERROR, $0) }
    DescriptorMemory.shared.free()
    return nil
  }
  return UnsafeRawPointer(
    makePlugin(name: name, version: version, functions: functions.map(\.descriptor)))
}
