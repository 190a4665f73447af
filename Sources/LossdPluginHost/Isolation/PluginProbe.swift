import CLinux
import CLossdPlugin
import Glibc
import LossdEngine
import LossdPluginKit
import LossdTensor

/// A plugin as a daemon would have it, for a program that has no daemon: tried and called in a
/// process with the daemon's confinement, limits and texts. Any thread, one at a time.
public final class PluginProbe {
  /// The limits that a daemon has beside those of the process itself.
  public struct Limits: Sendable {
    /// limits.callback_timeout, nanoseconds; 0: none.
    public var callbackTimeout: UInt64 = 10_000_000_000
    /// limits.connection_bytes: results of one call, bytes.
    public var resultBytesMax = 2 << 30
    public init() {}
  }

  public let info: PluginInfo
  /// What a daemon would log of it besides, one line each.
  public private(set) var notes: [String] = []
  private let plugin: IsolatedPlugin
  private let registry: Registry
  private let limits: Limits
  private let log: (String) -> Void
  private var link: WorkerLink?
  private var lines: PluginTrial.Lines

  /// Loads a file in a process. FAILED_PRECONDITION or ALREADY_EXISTS, with the daemon's text,
  /// where a daemon would refuse the file.
  /// - Parameters:
  ///   - registry: what the daemon has already, its built-in functions; the plugin's are added.
  ///   - log: gets the lines that the plugin writes.
  public init(
    _ path: String, into registry: Registry, _ settings: IsolationSettings, _ limits: Limits,
    log: @escaping (String) -> Void
  ) throws(StatusError) {
    self.registry = registry
    self.limits = limits
    self.log = log
    lines = PluginTrial.Lines(log)
    var notes: [String] = []
    do throws(StatusError) {
      plugin = try IsolatedPlugin(
        try PluginFile(path), settings, log: log, warn: { notes.append($0) })
      try registry.checkFree(plugin: plugin.name, path)
      try registry.add(plugin.image.plugin, owner: plugin)
    } catch { throw PluginManager.naming(path, error) }
    let descriptor = plugin.image.plugin.pointee
    if plugin.startsThreads {
      notes.append(
        "it starts threads while it is loaded: once unloaded, it stays in memory (pinned)")
    }
    let owner = plugin
    info = PluginInfo(
      name: plugin.name, version: String(cString: descriptor.version), file: path,
      functions: registry.table.entries.filter { $0.owner === owner }.map(\.name))
    self.notes = notes
    link = plugin.takeSpare().map { WorkerLink($0, isReady: true) }
  }

  /// Why a daemon of this user would not take a file from where it is, whatever its code does; nil:
  /// it would.
  public static func distrust(_ path: String) -> String? {
    do throws(StatusError) {
      _ = try PluginFile(path)
      return nil
    } catch { return error.message }
  }

  /// Its functions, as a daemon has them.
  public var entries: [FunctionEntry] {
    registry.table.entries.filter { $0.owner === plugin }
  }

  /// Whether its process has ended, or was ended: nothing more can be asked.
  public var hasEnded: Bool { link == nil }

  // MARK: - Calls

  /// Like `Evaluator.evaluate`, in the plugin's process. UNAVAILABLE with the signal's name where
  /// the process ends, DEADLINE_EXCEEDED where a callback takes too long: `hasEnded` is true then.
  public func evaluate(
    _ function: String, inputs: [String: Tensor], attributes: [String: AttributeValue] = [:],
    outputs: [String] = []
  ) throws(StatusError) -> [String: Tensor] {
    guard let link else {
      throw StatusError(
        .unavailable, "\(function): the process of the plugin \(plugin.name) has ended")
    }
    let evaluation = try Evaluator(registry).prepare(
      function, attributes: attributes, outputs: outputs)
    guard evaluation.entry.owner === plugin else {
      throw StatusError(.notFound, "the plugin \(plugin.name) has no function \(function)")
    }
    link.forgetFreed()
    let given = try GivenInputs(inputs, evaluation)
    defer { withExtendedLifetime(given) {} }
    try evaluation.request.checkRequired()
    var event = try ask(evaluation, link) { () throws(OrderFailure) in
      try link.evaluate(
        evaluation, function: plugin.index(of: evaluation.entry), segments: given.segments)
    }
    var segment: SharedSegment?
    if case .planned = event {
      guard evaluation.plan.resultBytes <= limits.resultBytesMax else {
        throw StatusError(
          .resourceExhausted,
          "\(function): results take \(evaluation.plan.resultBytes) bytes, over the limit of "
            + "\(limits.resultBytesMax) "
            + "(limits.connection_bytes)")
      }
      if evaluation.plan.resultBytes > Order.ownResultBytes {
        segment = try SharedSegment(evaluation.plan.resultBytes, isInput: false)
      }
      event = try ask(evaluation, link) { () throws(OrderFailure) in
        try link.run(evaluation, results: segment, bytes: evaluation.plan.resultBytes)
      }
    }
    guard case .computed(let bytes) = event else {
      throw end(link, evaluation, "sent what nobody had asked for")
    }
    if let segment {
      evaluation.bindAdopted(results: segment.base)
      defer { withExtendedLifetime(segment) {} }
      return try PluginProbe.outputs(evaluation)
    }
    guard bytes.count == evaluation.plan.resultBytes else {
      throw end(
        link, evaluation,
        "sent \(bytes.count) bytes of results, expected \(evaluation.plan.resultBytes)")
    }
    let buffer = try AlignedBuffer(reserving: evaluation.plan.resultBytes)
    defer { withExtendedLifetime(buffer) {} }
    evaluation.adoptResults(bytes, to: buffer.base)
    return try PluginProbe.outputs(evaluation)
  }

  private static func outputs(_ evaluation: Evaluation) throws(StatusError) -> [String: Tensor] {
    var outputs: [String: Tensor] = [:]
    for position in evaluation.request.wantedOutputs.indices {
      let (view, _, name) = evaluation.result(position)
      let copy = try AlignedBuffer(reserving: view.byteCount)
      if let data = view.data, view.byteCount > 0 {
        copy.base.copyMemory(from: data, byteCount: view.byteCount)
      }
      outputs[String(cString: name)] = Tensor(
        dataType: view.dataType, shape: view.shape.map { Int($0) }, buffer: copy)
    }
    return outputs
  }

  /// Gives the process an order and waits for the answer, as long as a callback may take.
  private func ask(
    _ evaluation: Evaluation, _ link: WorkerLink, _ order: () throws(OrderFailure) -> Void
  ) throws(StatusError) -> WorkerEvent {
    do throws(OrderFailure) { try order() } catch {
      if case .refused(let status) = error { throw status }
      throw died(link, evaluation)
    }
    let allowed = CallbackTime.allowed(limits.callbackTimeout, evaluation)
    let deadline = limits.callbackTimeout == 0 ? .max : Clock.now + allowed
    while true {
      guard PluginTrial.waitForWord(link.handle, deadline, &lines) else {
        link.handle.kill()
        letGo(link)
        throw CallbackTime.exceeded(limits.callbackTimeout, evaluation.entry)
      }
      switch link.receive() {
      case nil: continue
      case .failed(let error): throw error
      case .gone, .goneUnread: throw died(link, evaluation)
      case .broken(let reason): throw end(link, evaluation, reason)
      case let event?: return event
      }
    }
  }

  /// Ends the process for what it has done.
  private func end(_ link: WorkerLink, _ evaluation: Evaluation, _ reason: String) -> StatusError {
    link.handle.kill()
    letGo(link)
    return fate(evaluation, "was ended: it \(reason)")
  }

  /// What it was that the process has ended of.
  private func died(_ link: WorkerLink, _ evaluation: Evaluation) -> StatusError {
    let fate = PluginTrial.waitForEnd(link.handle)
    letGo(link)
    return self.fate(evaluation, fate)
  }

  private func fate(_ evaluation: Evaluation, _ fate: String) -> StatusError {
    StatusError(
      .unavailable, "\(evaluation.entry.name): the process of the plugin \(plugin.name) \(fate)")
  }

  private func letGo(_ link: WorkerLink) {
    lines.end(link.handle)
    plugin.processEnded(link.handle.pid, reason: nil)
    self.link = nil
  }

  // MARK: - The end

  /// Has the process stop the plugin and close its library, as a daemon does with a plugin that is
  /// to run in itself. Returns what a daemon would log of how that went wrong; nil: it went well,
  /// or the process has ended already.
  public func rehearseEnd() -> String? {
    guard let link else { return nil }
    defer { self.link = nil }
    return PluginTrial.rehearseEnd(
      link.handle, staysMapped: plugin.startsThreads, plugin.settings, log
    ).map { PluginTrial.unfit($0) }
  }
}

/// The inputs of one call, in memory that the process can be shown.
private final class GivenInputs {
  private(set) var segments: [(SharedSegment, bytes: Int)] = []
  private var shapes: [UnsafeMutablePointer<Int64>] = []

  init(_ inputs: [String: Tensor], _ evaluation: Evaluation) throws(StatusError) {
    let total = inputs.values.reduce(0) { $0 + ($1.byteCount + 63) & ~63 }
    let segment = try SharedSegment(max(total, 1), isInput: true)
    try segment.allocate(0, max(total, 1))
    segments = [(segment, bytes: max(total, 1))]
    var offset = 0
    // In an order that is the same every time.
    for (name, tensor) in inputs.sorted(by: { $0.key < $1.key }) {
      let shape = UnsafeMutablePointer<Int64>.allocate(capacity: max(tensor.shape.count, 1))
      shapes.append(shape)
      for (index, size) in tensor.shape.enumerated() { shape[index] = Int64(size) }
      let place = segment.base + offset
      if let source = tensor.bytes.baseAddress, tensor.byteCount > 0 {
        place.copyMemory(from: source, byteCount: tensor.byteCount)
      }
      withExtendedLifetime(tensor) {}
      offset += (tensor.byteCount + 63) & ~63
      let view = TensorView(
        data: place, shape: UnsafeBufferPointer(start: shape, count: tensor.shape.count),
        count: tensor.count, dataType: tensor.dataType)
      try evaluation.request.setInput(named: name, view)
    }
  }

  deinit { for shape in shapes { shape.deallocate() } }
}
