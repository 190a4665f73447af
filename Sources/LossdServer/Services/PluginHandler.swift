import LossdPluginHost
import LossdSocket
import LossdTensor
import LossdThreads
import LossdWire

/// The PluginHost service's methods. Opening a library takes its time, so that a thread of its own
/// does it while the loop goes on.
final class PluginHandler: CallHandler {
  private let context: CallLoop
  private var call: Call?
  private var request: PluginRequest?
  /// Which call an answer is for: one that was cancelled gets none.
  private var generation = 0
  private let arena = MessageArena(retainedBytes: 16 << 10)

  /// Decodes the method's requests.
  private let decode: Decode

  typealias Decode = (UnsafeRawBufferPointer, MessageArena) throws(StatusError) -> PluginRequest

  init(_ context: CallLoop, _ decode: @escaping Decode) {
    self.context = context
    self.decode = decode
  }

  override func begin(_ call: Call) {
    self.call = call
    request = nil
    generation += 1
  }

  override func requestArriving(_ message: UnsafeRawBufferPointer) throws(StatusError) {
    defer { arena.reset() }
    if request != nil {
      throw StatusError(.invalidArgument, "a second request of a method that takes one")
    }
    request = try decode(message, arena)
  }

  override func requestComplete(isLast: Bool) {
    guard isLast, let request else { return }
    guard let manager = context.daemon.plugins else {
      cancel(StatusError(.unimplemented, "this daemon has no plugin folders"))
      return
    }
    let bound = LoopBound((self, generation))
    let context = self.context
    let isStarted = tryToStartThread {
      let outcome = PluginHandler.answer(request, manager)
      context.loop.execute { bound.value.0.finish(outcome, request, bound.value.1) }
    }
    if !isStarted { cancel(StatusError(.resourceExhausted, "there is no thread for it now")) }
  }

  private static func answer(
    _ request: PluginRequest, _ manager: PluginManager
  ) -> Result<PluginsResponse, StatusError> {
    do throws(StatusError) {
      switch request {
      case .list:
        return .success(
          PluginsResponse(
            plugins: manager.plugins.map(PluginMessage.init), folders: manager.folders))
      case .load(let file, let isolation):
        return .success(one(try manager.load(file, placement: try placement(isolation))))
      case .reload(let name): return .success(one(try manager.reload(name)))
      case .unload(let name):
        try manager.unload(name)
        return .success(PluginsResponse(plugins: []))
      }
    } catch { return .failure(error) }
  }

  private static func one(_ plugin: PluginInfo) -> PluginsResponse {
    PluginsResponse(plugins: [PluginMessage(plugin)])
  }

  private static func placement(_ isolation: String) throws(StatusError) -> Placement? {
    switch isolation {
    case "": return nil
    case "none": return .daemon
    case "process": return .process
    default:
      throw StatusError(
        .invalidArgument,
        "the isolation is `\(isolation.prefix(32))`, expected none, process or nothing")
    }
  }

  private func finish(
    _ outcome: Result<PluginsResponse, StatusError>, _ request: PluginRequest, _ generation: Int
  ) {
    guard let call, generation == self.generation else { return }
    do throws(StatusError) {
      let plugins = try outcome.get()
      let method = call.method
      try call.respond(.plugins(plugins, answering: request))
      context.metrics.methodEnded(method.path, .ok)
      self.call = nil
    } catch { cancel(error) }
  }

  override func cancel(_ reason: StatusError) {
    guard let call else { return }
    self.call = nil
    context.metrics.methodEnded(call.method.path, reason.code)
    call.end(reason)
  }
}

extension PluginMessage {
  init(_ info: PluginInfo) {
    self.init(
      name: info.name, version: info.version, file: info.file, functions: info.functions)
    isolation = info.placement == .process ? "process" : "none"
    state = info.state
    restarts = UInt32(clamping: info.restarts)
    lastReason = info.lastReason
    processes = info.processes
    since = info.since
  }
}
