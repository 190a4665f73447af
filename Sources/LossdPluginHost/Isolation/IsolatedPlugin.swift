import CLinux
import CLossdPlugin
import Glibc
import LossdEngine
import LossdTensor
import LossdThreads
import Synchronization

/// A plugin that runs in processes of its own: its declarations, the sealed library that further
/// processes open, and how it fares. Kept alive by its functions' entries, and so by every call.
public final class IsolatedPlugin: FunctionOwner, Sendable {
  private static let count = Atomic<UInt64>(0)

  /// Never used twice in this process.
  public let number = IsolatedPlugin.count.add(1, ordering: .relaxed).newValue
  public let settings: IsolationSettings
  let image: DescriptorImage
  /// Loading it has started threads.
  let startsThreads: Bool
  let path: String
  private let library: Int32

  private struct State {
    var health = PluginHealth()
    var spare: WorkerHandle?
    var processes: [Int32] = []
    var onClose: [@Sendable () -> Void] = []
  }
  private let state: Mutex<State>

  public var isElsewhere: Bool { true }
  public var name: String { String(cString: image.plugin.pointee.name) }
  var version: String { String(cString: image.plugin.pointee.version) }

  /// Starts a process for a checked file and waits until it has loaded it. FAILED_PRECONDITION with
  /// the reason.
  /// - Parameters:
  ///   - log: gets what it writes to its log meanwhile, line by line.
  ///   - warn: gets the line that says of what processes cannot be kept here, the first time.
  init(
    _ file: consuming PluginFile, _ settings: IsolationSettings,
    log: @escaping (String) -> Void = { _ in }, warn: @escaping (String) -> Void = { _ in }
  ) throws(StatusError) {
    self.settings = settings
    var file = file
    path = file.path
    library = file.take()
    do throws(StatusError) {
      let trial = try PluginTrial.run(library, path, settings, log, warn)
      image = trial.image
      startsThreads = trial.startsThreads
      state = Mutex(State(spare: trial.handle, processes: [trial.handle.pid]))
    } catch {
      _ = close(library)
      throw error
    }
  }

  deinit {
    let actions = state.withLock { $0.onClose }
    for action in actions { action() }
    _ = close(library)
  }

  /// Called when the last call has ended and the plugin is not loaded any more: its processes can
  /// go.
  public func onClose(_ action: @escaping @Sendable () -> Void) {
    state.withLock { $0.onClose.append(action) }
  }

  /// The place of a function in the plugin's list, by which its process knows it.
  public func index(of entry: FunctionEntry) -> UInt32 {
    let plugin = image.plugin.pointee
    for index in 0..<Int(plugin.function_count) where plugin.functions[index] == entry.function {
      return UInt32(index)
    }
    return UInt32.max
  }

  // MARK: - Processes

  /// The process that loading has left over, or nil; it is the caller's.
  public func takeSpare() -> WorkerHandle? {
    state.withLock { state in
      defer { state.spare = nil }
      return state.spare
    }
  }

  /// Starts another process; the caller waits for READY on its socket.
  public func spawn(
    _ completion: @escaping @Sendable (Result<WorkerHandle, StatusError>) -> Void
  ) {
    ProcessSpawner.shared.spawn(settings, library: library, name: name, path: path) {
      [self] result in
      if case .success(let handle) = result {
        state.withLock { $0.processes.append(handle.pid) }
      }
      completion(result)
    }
  }

  // MARK: - Health

  public func processEnded(_ pid: Int32, reason: String?) {
    state.withLock { state in
      state.processes.removeAll { $0 == pid }
      if let reason { state.health.died(reason) }
    }
  }

  public func answered() { state.withLock { $0.health.answered() } }

  /// How long no process may be started yet, nanoseconds; `isSetAside` says that it will be long.
  public var pause: (nanoseconds: UInt64, isSetAside: Bool, lastReason: String) {
    state.withLock { ($0.health.pause(), $0.health.isSetAside, $0.health.lastReason) }
  }

  struct Condition {
    var state: String
    var restarts: Int
    var lastReason: String
    var processes: [Int32]
  }

  var condition: Condition {
    state.withLock { state in
      let health = state.health
      let isPausing = health.pause() > 0
      return Condition(
        state: health.isSetAside && isPausing
          ? "set aside" : isPausing ? "restarting" : "serving",
        restarts: health.restarts, lastReason: health.lastReason, processes: state.processes)
    }
  }
}
