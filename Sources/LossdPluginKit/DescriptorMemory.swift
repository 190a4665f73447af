import CLossdPlugin
import Glibc
import LossdTensor

/// What descriptors point to: C copies that stay until the plugin is stopped, as plugin.h wants it.
///
/// `@unchecked Sendable`: what it holds is behind a lock. In a daemon the loading thread alone uses
/// it, when the entry is called and when `stop` is; tests make plugins on many threads.
final class DescriptorMemory: @unchecked Sendable {
  static let shared = DescriptorMemory()

  private var blocks: [UnsafeMutableRawPointer] = []
  private var boxes: [FunctionBox] = []
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

  private init() { pthread_mutex_init(mutex, nil) }

  private func locked(_ body: () -> Void) {
    pthread_mutex_lock(mutex)
    body()
    pthread_mutex_unlock(mutex)
  }

  func copy<T>(_ elements: [T]) -> UnsafePointer<T>? {
    if elements.isEmpty { return nil }
    let copy = UnsafeMutablePointer<T>.allocate(capacity: elements.count)
    copy.initialize(from: elements, count: elements.count)
    locked { blocks.append(UnsafeMutableRawPointer(copy)) }
    return UnsafePointer(copy)
  }

  func copy<T>(_ value: T) -> UnsafePointer<T> {
    let copy = UnsafeMutablePointer<T>.allocate(capacity: 1)
    copy.initialize(to: value)
    locked { blocks.append(UnsafeMutableRawPointer(copy)) }
    return UnsafePointer(copy)
  }

  func copy(_ text: String) -> UnsafePointer<CChar>? { copy(Array(text.utf8CString)) }

  /// A C context that is retained here.
  func keep(_ box: FunctionBox) -> UnsafeMutableRawPointer {
    locked { boxes.append(box) }
    return Unmanaged.passUnretained(box).toOpaque()
  }

  func free() {
    locked {
      for block in blocks { block.deallocate() }
      blocks = []
      boxes = []
    }
  }
}

extension lossd_input {
  init(_ declaration: InputDeclaration, _ memory: DescriptorMemory) {
    self.init()
    name = memory.copy(declaration.name)
    help = memory.copy(declaration.help)
    data_types = declaration.dataTypes.reduce(0) { $0 | 1 << $1.rawValue }
    if declaration.isRequired { flags |= UInt32(LOSSD_INPUT_REQUIRED) }
    if declaration.isKept { flags |= UInt32(LOSSD_INPUT_KEPT) }
    switch declaration.batching {
    case nil: break
    case .rows: flags |= UInt32(LOSSD_INPUT_ROWS)
    case .broadcast: flags |= UInt32(LOSSD_INPUT_BROADCAST)
    case .upstream: flags |= UInt32(LOSSD_INPUT_UPSTREAM)
    }
    if declaration.isClasses { flags |= UInt32(LOSSD_INPUT_CLASSES) }
  }
}

extension lossd_output {
  init(_ declaration: OutputDeclaration, _ memory: DescriptorMemory) {
    self.init()
    name = memory.copy(declaration.name)
    help = memory.copy(declaration.help)
    if declaration.isDefault { flags |= UInt32(LOSSD_OUTPUT_DEFAULT) }
    if declaration.isUnimplemented { flags |= UInt32(LOSSD_OUTPUT_UNIMPLEMENTED) }
    if declaration.hasRows { flags |= UInt32(LOSSD_OUTPUT_ROWS) }
    may_overwrite = Int32(declaration.mayOverwrite ?? -1)
  }
}

extension lossd_attribute {
  init(_ declaration: AttributeDeclaration, _ memory: DescriptorMemory) {
    self.init()
    name = memory.copy(declaration.name)
    help = memory.copy(declaration.help)
    type = declaration.kind.rawValue
    if declaration.isRequired { flags |= UInt32(LOSSD_ATTRIBUTE_REQUIRED) }
    if declaration.role == .dimension { flags |= UInt32(LOSSD_ATTRIBUTE_DIMENSION) }
    if declaration.role == .reduction { flags |= UInt32(LOSSD_ATTRIBUTE_REDUCTION) }
    default_value = lossd_value(declaration.defaultValue, memory)
    minimum = lossd_value(declaration.minimum, memory)
    maximum = lossd_value(declaration.maximum, memory)
    if !declaration.choices.isEmpty {
      choices = memory.copy(declaration.choices.map { memory.copy($0) } + [nil])
    }
  }
}

extension lossd_value {
  init(_ value: AttributeValue?, _ memory: DescriptorMemory) {
    self.init()
    switch value {
    case nil: break
    case .bool(let bool):
      kind = UInt32(LOSSD_VALUE_BOOL)
      self.as.integer = bool ? 1 : 0
    case .int(let integer):
      kind = UInt32(LOSSD_VALUE_INT)
      self.as.integer = integer
    case .float(let floating):
      kind = UInt32(LOSSD_VALUE_FLOAT)
      self.as.floating = floating
    case .string(let text):
      kind = UInt32(LOSSD_VALUE_STRING)
      length = UInt32(text.utf8.count)
      self.as.string = memory.copy(text)
    }
  }
}
