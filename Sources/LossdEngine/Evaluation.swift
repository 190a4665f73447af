import CLossdPlugin
import LossdTensor
import Synchronization

/// One call of a function: what it asks for (`Request`), what its function has planned (`Plan`) and
/// how far it is (`Progress`). Reusable after `begin`.
///
/// `@unchecked Sendable`: one thread at a time sets it up, plans and finishes it; in between,
/// chunks run on several threads, each writing its own slot of the chunks' sums and its own part of
/// the outputs, and the workers' lock orders one phase before the next.
public final class Evaluation: Queued, @unchecked Sendable {
  public private(set) var entry: FunctionEntry
  public var request: Request
  public internal(set) var plan: Plan
  public internal(set) var progress: Progress

  /// Its place among those that wait for a worker.
  var links = Links<Evaluation>()
  /// It waits only to end.
  var isEnding = false
  /// Whose turn it waits for; nil: no worker has it to do.
  var group: WorkGroup?
  var completion: (@Sendable (Evaluation) -> Void)?
  /// What a worker is to do before, or in place of, the chunks.
  typealias Task = @Sendable (Evaluation, AlignedBuffer) throws(StatusError) -> Void
  var task: Task?
  /// Monotonic nanoseconds after which no further chunk starts; `.max`: none.
  public var deadline = UInt64.max
  private let stopped = Atomic<Bool>(false)
  /// A word that says, by a number, which call is the last that is to stop; and this call's number.
  var stopOrder: (word: UnsafePointer<UInt64>, number: UInt64)?

  /// For the arrays of a call. In pages apart from malloc's heap, where those of thousands of calls
  /// that are over would stay.
  private let memory = PageBlock(CallLayout.byteCount)

  public init(_ entry: FunctionEntry) {
    self.entry = entry
    var layout = CallLayout(memory.base)
    request = Request(entry, &layout)
    plan = Plan(&layout)
    progress = Progress(&layout)
    precondition(layout.end <= CallLayout.byteCount)
    // Unretained: the call's memory is freed with this object.
    UnsafeMutableRawPointer(request.call + 1).storeBytes(
      of: UnsafeRawPointer(Unmanaged.passUnretained(self).toOpaque()), as: UnsafeRawPointer.self)
    begin(entry)
  }

  /// Starts over for a call of `entry`: no inputs, attributes at their defaults, nothing wanted.
  public func begin(_ entry: FunctionEntry) {
    self.entry = entry
    request.begin(entry, state: plan.state, totals: progress.totals)
    plan.reserve(outputs: entry.outputs.count)
    beginProgress()
    stopOrder = nil
  }

  /// Starts a new call with the function, attributes and outputs of another, which must stay alive.
  public func begin(like other: Evaluation) {
    begin(other.entry)
    request.takeSettings(of: other.request)
  }

  /// Starts the same call again: request, plan and memory stay, elements may be others.
  public func rewind() {
    beginProgress()
    progress.stage = 0
  }

  private func beginProgress() {
    progress.begin()
    completion = nil
    task = nil
    deadline = .max
    stopped.store(false, ordering: .relaxed)
  }

  /// Erases what this holds of the call, but for its inputs and results: who computes for many
  /// leaves nothing of one to the next.
  public func erase() {
    request.erase()
    plan.erase(entry)
    progress.erase(entry, workspaceBytes: plan.workspaceBytes)
  }

  /// Asks it to stop between two chunks, or, where a function asks, within one. Any thread. One
  /// that may wait for a worker ends sooner by `WorkerThreads.stop`.
  public func stop() { stopped.store(true, ordering: .relaxed) }

  /// Whether it has been asked to stop: what is done for it besides computing ends, too. Any
  /// thread.
  public var isAskedToStop: Bool { stopped.load(ordering: .relaxed) }

  func reasonToStop() -> StatusError? {
    if isAskedToStop || isToldToStop {
      return StatusError(.cancelled, "\(entry.name): cancelled")
    }
    if deadline != .max && Clock.now >= deadline {
      return StatusError(.deadlineExceeded, "\(entry.name): the deadline has passed")
    }
    return nil
  }

  /// Why it ended badly, once its completion has been called; nil when it did well.
  public var error: StatusError? { progress.failure?.error }
}

/// The arrays of a call one behind another, each at a multiple of 64 bytes.
struct CallLayout {
  static let byteCount = 16 << 10

  private let base: UnsafeMutableRawPointer
  private(set) var end = 0

  init(_ base: UnsafeMutableRawPointer) { self.base = base }

  mutating func place(byteCount: Int) -> UnsafeMutableRawPointer {
    defer { end = (end + byteCount + 63) & ~63 }
    return base + end
  }

  mutating func place<Element>(_ count: Int) -> UnsafeMutablePointer<Element> {
    place(byteCount: count * MemoryLayout<Element>.stride)
      .bindMemory(to: Element.self, capacity: count)
  }
}

func clearBytes(_ memory: UnsafeMutableRawPointer, _ count: Int) {
  if count > 0 { memory.initializeMemory(as: UInt8.self, repeating: 0, count: count) }
}

/// Memory that a call has anyway, for results and work that fit into it.
///
/// `@unchecked Sendable`: it is its call's alone.
public struct SmallMemory: @unchecked Sendable {
  public var results: UnsafeMutableRawPointer
  public var resultBytes: Int
  public var workspace: AlignedBuffer
  /// Estimated work up to which it may be used, nanoseconds.
  public var costMax: Double

  public init(
    results: UnsafeMutableRawPointer, resultBytes: Int, workspace: AlignedBuffer, costMax: Double
  ) {
    self.results = results
    self.resultBytes = resultBytes
    self.workspace = workspace
    self.costMax = costMax
  }
}
