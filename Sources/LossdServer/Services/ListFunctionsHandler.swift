import LossdTensor

final class ListFunctionsHandler: CallHandler { init(_ c: LoopContext) {} }
final class GetStatusHandler: CallHandler { init(_ c: LoopContext) {} }
